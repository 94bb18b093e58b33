// `emq queues --json`: the pages of a list of queues as one document.

import JSON

/// The pages of a list of queues as one document.
struct QueuesDocument {
    /// The members of the first page, besides the queues.
    private var rest = ""
    private var queues = ""
    private var pageCount = 0

    mutating func append(_ page: JSONPart) {
        for (name, value) in page.members {
            if name == "queues" {
                // What is between the braces.
                let members = value.source.dropFirst().dropLast()
                queues += (queues.isEmpty || members.isEmpty ? "" : ",") + members
            } else if pageCount == 0, name != "next" {
                rest += ",\"\(name)\":\(value.source)"
            }
        }
        pageCount += 1
    }

    var json: String { "{\"queues\":{\(queues)}\(rest)}" }
}
