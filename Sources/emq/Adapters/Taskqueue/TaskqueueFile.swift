// taskqueue's ini file.

struct TaskqueueFile {
    init(path: String) throws(TaskqueueFileError) { throw TaskqueueFileError("") }
    var startLines: [String] { [] }
}

struct TaskqueueFileError: Error {
    let description: String
    init(_ description: String) { self.description = description }
}
