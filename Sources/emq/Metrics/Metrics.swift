// What the server counts for `/metrics` that has no other home, and the names of the labels.

import Glibc
import Net

/// Why a request that would have added tasks was refused.
enum Rejection: String, CaseIterable {
    /// Its queue has its maximum length.
    case queueFull = "queue_full"
    /// Memory is short.
    case memory
    /// The journal has no space.
    case disk
    /// The server has as many tasks or queues as it can have.
    case limit
    /// The server stops.
    case stopping
    /// The server recovers its journal.
    case recovering
    /// Another task has the key, and the request asks for an error then.
    case keyTaken = "key_taken"
    /// The client may not add tasks there.
    case forbidden
    /// Anything else that is wrong with the request.
    case invalid
}

extension Problem {
    /// Why the request was refused, if it would have added tasks.
    var rejection: Rejection {
        switch type {
        case .memoryFull, .addressSpaceFull: .memory
        case .diskFull: .disk
        case .stopping: .stopping
        case .recovering: .recovering
        case .keyTaken: .keyTaken
        case .queueFull: .queueFull
        default:
            switch status {
            case 401, 403: .forbidden
            case 503: .limit
            default: .invalid
            }
        }
    }
}

/// The metrics of this server. They begin with the process.
final class Metrics {
    let survey = QueueSurvey()
    /// The value of the label `route` for each label of the HTTP server's counts. The first is for all other requests.
    let routes: [String]
    /// When the process began, in milliseconds since the Unix epoch, by the wall clock.
    let startMilliseconds: Int64
    private var rejections: [Rejection: UInt64] = [:]
    private var strangers: [Caller.Reason: UInt64] = [:]
    /// How many requests were refused because their tokens do not allow them.
    private(set) var forbiddenCount: UInt64 = 0

    /// - Parameter services: the names of the legacy systems, in the order of their services.
    init(services: [String] = []) {
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        startMilliseconds = Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
        routes = ["other"] + Route.all.map(\.path) + services
    }

    /// The label of requests to a route, by its place in the table of routes.
    static func label(ofRoute place: Int) -> UInt8 { UInt8(clamping: place + 1) }

    /// The label of requests to a legacy system.
    static func label(ofService service: Int) -> UInt8 { UInt8(clamping: Route.all.count + service) }

    /// The label of requests to `/enqueue`.
    static let enqueueLabel: UInt8 =
        Route.all.firstIndex { "\($0.name)" == "enqueue" }.map { label(ofRoute: $0) } ?? 0

    /// Counts a request that would have added tasks.
    func note(_ rejection: Rejection) { rejections[rejection, default: 0] += 1 }

    /// How many requests were refused for a reason.
    func count(of rejection: Rejection) -> UInt64 { rejections[rejection, default: 0] }

    /// Counts a request that was refused because of its sender.
    func noteRefusal(of caller: Caller, _ problem: Problem) {
        switch caller {
        case .stranger(let reason) where problem.status == 401: strangers[reason, default: 0] += 1
        case .holder where problem.status == 403: forbiddenCount += 1
        default: break
        }
    }

    /// How many requests were refused because they showed no valid token, for a reason.
    func count(of reason: Caller.Reason) -> UInt64 { strangers[reason, default: 0] }
}
