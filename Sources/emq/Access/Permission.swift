// What a request needs of its sender, and what a token allows.

/// A kind of request that a token may allow.
enum Permission: UInt8, CaseIterable, Sendable {
    /// Adding tasks.
    case enqueue
    /// Taking, acknowledging, refusing and touching tasks.
    case work
    /// Looking at tasks, results and queues.
    case read
    /// Pausing, purging, kicking and moving queues, and cancelling tasks.
    case manage
    /// Configurations, defaults and sources.
    case admin
    /// The server's metrics.
    case metrics
    /// Adding tasks with a `request`, which make the server send HTTP requests.
    case push

    /// The name in a file of tokens.
    var name: String { "\(self)" }
}

/// A set of permissions.
struct Permissions: OptionSet, Sendable {
    let rawValue: UInt8

    init(rawValue: UInt8) { self.rawValue = rawValue }

    init(_ permission: Permission) { rawValue = 1 << permission.rawValue }

    func contains(_ permission: Permission) -> Bool { contains(Permissions(permission)) }
}

/// What a request needs, as its entry in the table of routes says.
struct Need: Sendable {
    /// Nil if no permission is needed.
    let permission: Permission?
    /// Whether everybody may send it, without a token.
    let isOpen: Bool
    /// Whether a token for some queues is not enough.
    let isForAllQueues: Bool

    private init(_ permission: Permission?, isOpen: Bool = false, isForAllQueues: Bool = false) {
        self.permission = permission
        self.isOpen = isOpen
        self.isForAllQueues = isForAllQueues
    }

    /// Everybody may send it, without a token.
    static let nothing = Need(nil, isOpen: true)
    /// Everybody with a token may send it, whatever the token allows.
    static let anyToken = Need(nil)
    static let enqueue = Need(.enqueue)
    static let work = Need(.work)
    static let read = Need(.read)
    static let manage = Need(.manage)
    static let admin = Need(.admin)
    static let adminOfAllQueues = Need(.admin, isForAllQueues: true)
    static let metrics = Need(.metrics)
}
