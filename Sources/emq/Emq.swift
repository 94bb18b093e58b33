@main struct Emq { static func main() {} }
