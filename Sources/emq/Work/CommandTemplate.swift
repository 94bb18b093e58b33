// The arguments of a worker's command, with places for what a task has: `{id}`, `{queue}`, `{.field}`.

import Bytes

/// Words in which parts of a task are put, each as it is: no shell reads them.
struct CommandTemplate {
    /// A part of a word.
    private enum Part: Equatable {
        case text(String)
        case id
        case queue
        case attempt
        /// The member at a path in the content; the whole content if the path is empty.
        case content([String])
    }

    private let words: [[Part]]

    /// Reads the words of a command line. `{{` stands for a brace.
    ///
    /// - Throws: `UsageError` if a word has a brace that begins nothing known.
    init(_ words: [String]) throws(UsageError) {
        var all: [[Part]] = []
        for word in words { all.append(try Self.parts(of: word, allowsUnknown: false)) }
        self.words = all
    }

    /// Words that stay as they are, braces too.
    ///
    /// - Throws: `UsageError` if one has a place for something of a task.
    init(plain words: [String]) throws(UsageError) {
        for word in words {
            for part in try Self.parts(of: word, allowsUnknown: true) {
                if case .text = part { continue }
                throw UsageError(
                    "with --persistent, one process does many tasks: leave {id}, {.field} and the like out of its command "
                        + "line; it reads each task as a line of JSON")
            }
        }
        self.words = words.map { [.text($0)] }
    }

    private static func parts(of word: String, allowsUnknown: Bool) throws(UsageError) -> [Part] {
        var parts: [Part] = []
        var text = ""
        var rest = word[...]
        while let character = rest.popFirst() {
            guard character == "{" else {
                text.append(character)
                continue
            }
            // A variable of a shell's script, such as ${HOME}.
            if text.last == "$" {
                text.append("{")
                continue
            }
            if rest.first == "{" {
                text.append("{")
                rest.removeFirst()
                continue
            }
            // A brace that closes nothing, as in JSON or a shell's script, stays as it is.
            guard let end = rest.firstIndex(of: "}"), let part = part(named: rest[..<end]) else {
                if !allowsUnknown, let end = rest.firstIndex(of: "}"), rest[..<end].allSatisfy({ $0.isLetter }),
                    end > rest.startIndex
                {
                    throw UsageError(
                        "there is no '{\(rest[..<end])}'; write {id}, {queue}, {attempt}, {.field.of.the.content}, or {{ "
                            + "for a brace")
                }
                text.append("{")
                continue
            }
            if !text.isEmpty { parts.append(.text(text)) }
            text = ""
            parts.append(part)
            rest = rest[rest.index(after: end)...]
        }
        if !text.isEmpty || parts.isEmpty { parts.append(.text(text)) }
        return parts
    }

    private static func part(named name: Substring) -> Part? {
        switch name {
        case "id": return .id
        case "queue": return .queue
        case "attempt": return .attempt
        default:
            guard name.first == "." else { return nil }
            let path = name.dropFirst().split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            if path == [""] { return .content([]) }
            return path.contains("") ? nil : .content(path)
        }
    }

    /// The words for a task.
    ///
    /// - Parameter task: the task.
    /// - Returns: the words. A string in the content stands for itself, any other value for its JSON.
    /// - Throws: `TemplateFailure` if the content has no such member, or a word would contain a null byte.
    func words(for task: WorkTask) throws(TemplateFailure) -> [String] {
        var result: [String] = []
        for parts in words {
            var word = ""
            for part in parts {
                switch part {
                case .text(let text): word += text
                case .id: word += task.id
                case .queue: word += task.queue
                case .attempt: word += "\(task.attempt)"
                case .content(let path): word += try Self.text(at: path, in: task)
                }
            }
            if word.utf8.contains(0) {
                throw TemplateFailure(description: "an argument would contain a null byte")
            }
            result.append(word)
        }
        return result
    }

    private static func text(at path: [String], in task: WorkTask) throws(TemplateFailure) -> String {
        guard var value = JSONPart(task.content[...]) else { return "" }
        for (depth, name) in path.enumerated() {
            // An array's elements have numbers.
            let next =
                value.kind == .array
                ? Int(name).flatMap { index in
                    let elements = value.members
                    return elements.indices.contains(index) ? elements[index].value : nil
                } : value.members.first { $0.name == name }?.value
            guard let next else {
                let place = path[...depth].joined(separator: ".")
                throw TemplateFailure(description: "the content has no .\(place), which the command line needs")
            }
            value = next
        }
        return value.text ?? value.source
    }
}

/// Why the command line for a task cannot be made. The task is at fault, not the worker.
struct TemplateFailure: Error {
    let description: String
}
