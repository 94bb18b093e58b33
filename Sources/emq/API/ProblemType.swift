// The types of problems: what a client program can tell apart when a request fails. docs/errors.md lists them.

/// What kind of problem a request has met. The raw value is the last part of its URN, which never changes.
///
/// Two problems have the same type if the same remedy helps.
enum ProblemType: String, CaseIterable {
    // 400
    case malformedHTTP = "malformed-http"
    case missingBody = "missing-body"
    case unexpectedBody = "unexpected-body"
    case malformedJSON = "malformed-json"
    case jsonTooDeep = "json-too-deep"
    case invalidBody = "invalid-body"
    case tooManyItems = "too-many-items"
    case batchTooLong = "batch-too-long"
    case unknownField = "unknown-field"
    case duplicateField = "duplicate-field"
    case missingField = "missing-field"
    case invalidField = "invalid-field"
    case conflictingFields = "conflicting-fields"
    case maskedSecret = "masked-secret"
    case unknownParameter = "unknown-parameter"
    case duplicateParameter = "duplicate-parameter"
    case missingParameter = "missing-parameter"
    case invalidParameter = "invalid-parameter"
    case invalidName = "invalid-name"
    case invalidID = "invalid-id"

    // 401
    case authenticationRequired = "authentication-required"
    case malformedAuthorization = "malformed-authorization"
    case damagedToken = "damaged-token"
    case unknownToken = "unknown-token"
    case expiredToken = "expired-token"

    // 403
    case permissionMissing = "permission-missing"
    case queueNotAllowed = "queue-not-allowed"
    case hostNotAllowed = "host-not-allowed"
    case crossSiteRequest = "cross-site-request"
    case pushDisabled = "push-disabled"
    case destinationNotAllowed = "destination-not-allowed"
    case queueReserved = "queue-reserved"

    // 404
    case noSuchPath = "no-such-path"
    case noSuchTask = "no-such-task"
    case noSuchKey = "no-such-key"
    case noSuchSource = "no-such-source"
    case pageGone = "page-gone"

    // 405 to 408
    case methodNotAllowed = "method-not-allowed"
    case requestTimeout = "request-timeout"

    // 409
    case keyTaken = "key-taken"
    case taskUnfinished = "task-unfinished"
    case sourceFromFile = "source-from-file"

    // 413 to 431
    case bodyTooLarge = "body-too-large"
    case changeTooLarge = "change-too-large"
    case requestLineTooLong = "request-line-too-long"
    case unsupportedMediaType = "unsupported-media-type"
    case unsupportedContentEncoding = "unsupported-content-encoding"
    case unsupportedExpectation = "unsupported-expectation"
    case queueFull = "queue-full"
    case headerTooLarge = "header-too-large"

    // 501 to 505
    case unsupportedTransferCoding = "unsupported-transfer-coding"
    case notAProxy = "not-a-proxy"
    case recovering
    case stopping
    case memoryFull = "memory-full"
    case addressSpaceFull = "address-space-full"
    case buffersFull = "buffers-full"
    case answerTooLarge = "answer-too-large"
    case diskFull = "disk-full"
    case tooManyTasks = "too-many-tasks"
    case tooManyQueues = "too-many-queues"
    case tooManySources = "too-many-sources"
    case tooManySweeps = "too-many-sweeps"
    case tooManyScrapes = "too-many-scrapes"
    case tooManyStreams = "too-many-streams"
    case libraryMissing = "library-missing"
    case clientEnded = "client-ended"
    case unsupportedHTTPVersion = "unsupported-http-version"

    /// What the names of all types begin with.
    static let urnPrefix = "urn:emq:error:"

    /// The type as answers name it, in `type`.
    var urn: String { Self.urnPrefix + rawValue }

    /// The status of answers with this type.
    var status: Int { facts.status }

    /// What the type means, in a few words for people. It is the same for all problems of the type.
    var title: StaticString { facts.title }

    private var facts: (status: Int, title: StaticString) {
        switch self {
        case .malformedHTTP: (400, "Malformed HTTP")
        case .missingBody: (400, "Missing body")
        case .unexpectedBody: (400, "Unexpected body")
        case .malformedJSON: (400, "Malformed JSON")
        case .jsonTooDeep: (400, "JSON nested too deeply")
        case .invalidBody: (400, "Invalid body")
        case .tooManyItems: (400, "Too many items")
        case .batchTooLong: (400, "More tasks than the queue may hold")
        case .unknownField: (400, "Unknown field")
        case .duplicateField: (400, "Duplicate field")
        case .missingField: (400, "Missing field")
        case .invalidField: (400, "Invalid field")
        case .conflictingFields: (400, "Conflicting fields")
        case .maskedSecret: (400, "Masked secret")
        case .unknownParameter: (400, "Unknown query parameter")
        case .duplicateParameter: (400, "Duplicate query parameter")
        case .missingParameter: (400, "Missing query parameter")
        case .invalidParameter: (400, "Invalid query parameter")
        case .invalidName: (400, "Invalid name")
        case .invalidID: (400, "Invalid id")
        case .authenticationRequired: (401, "Token required")
        case .malformedAuthorization: (401, "Malformed Authorization")
        case .damagedToken: (401, "Damaged token")
        case .unknownToken: (401, "Unknown token")
        case .expiredToken: (401, "Expired token")
        case .permissionMissing: (403, "Missing permission")
        case .queueNotAllowed: (403, "Queue not allowed")
        case .hostNotAllowed: (403, "Host name not allowed")
        case .crossSiteRequest: (403, "Request from another site")
        case .pushDisabled: (403, "Push disabled")
        case .destinationNotAllowed: (403, "Destination not allowed")
        case .queueReserved: (403, "Reserved queue")
        case .noSuchPath: (404, "No such path")
        case .noSuchTask: (404, "No such task")
        case .noSuchKey: (404, "No such key")
        case .noSuchSource: (404, "No such source")
        case .pageGone: (404, "Page gone")
        case .methodNotAllowed: (405, "Method not allowed")
        case .requestTimeout: (408, "Request too slow")
        case .keyTaken: (409, "Key taken")
        case .taskUnfinished: (409, "Task unfinished")
        case .sourceFromFile: (409, "Source defined in a file")
        case .bodyTooLarge: (413, "Body too large")
        case .changeTooLarge: (413, "Change too large")
        case .requestLineTooLong: (414, "Request line too long")
        case .unsupportedMediaType: (415, "Unsupported media type")
        case .unsupportedContentEncoding: (415, "Unsupported content encoding")
        case .unsupportedExpectation: (417, "Unsupported expectation")
        case .queueFull: (429, "Queue full")
        case .headerTooLarge: (431, "Header too large")
        case .unsupportedTransferCoding: (501, "Unsupported transfer coding")
        case .notAProxy: (501, "Not a proxy")
        case .recovering: (503, "Recovering")
        case .stopping: (503, "Stopping")
        case .memoryFull: (503, "Memory for tasks full")
        case .addressSpaceFull: (503, "No memory or address space")
        case .buffersFull: (503, "Memory for requests and responses full")
        case .answerTooLarge: (503, "Response too large at the moment")
        case .diskFull: (503, "Disk full")
        case .tooManyTasks: (503, "Too many tasks")
        case .tooManyQueues: (503, "Too many queues")
        case .tooManySources: (503, "Too many sources")
        case .tooManySweeps: (503, "Too many purges, kicks and moves")
        case .tooManyScrapes: (503, "Too many requests for metrics")
        case .tooManyStreams: (503, "Too many streams of events")
        case .libraryMissing: (503, "Missing library")
        case .clientEnded: (503, "Client ended its side")
        case .unsupportedHTTPVersion: (505, "Unsupported version of HTTP")
        }
    }
}
