// `emq completion`, which prints the script that a shell reads, and `emq complete`, which that script calls.

import Bytes

enum CompletionCommands {
    /// How many names of queues are offered.
    private static let maximumQueueCount = 50
    /// How long the server may take to list them, in milliseconds: a person waits.
    private static let timeoutMilliseconds: Int64 = 500

    static let completion = Command(
        name: "completion", section: .help, operands: "bash|zsh|fish", operandCount: 1...1,
        operandCompletion: .words(["bash", "zsh", "fish"]), summary: "print the script that completes words in a shell",
        text: ["The shell then offers commands, options, files, and names of queues of the server."],
        examples: [
            CommandExample(
                "source <(emq completion bash)", "complete in this shell; put the line in ~/.bashrc to keep it"),
            CommandExample("emq completion fish > ~/.config/fish/completions/emq.fish", "the same for fish"),
        ]
    ) { invocation in
        switch invocation.operands.first {
        case "bash": Emq.print(bash)
        case "zsh": Emq.print(zsh)
        case "fish": Emq.print(fish)
        default: throw UsageError("there are scripts for bash, zsh and fish")
        }
        return .done
    }

    /// Called by the scripts: prints a word on each line for the last word of a command line, or `@files` or
    /// `@directories`.
    static let complete = Command(
        name: "complete", section: .hidden, operands: "-- [WORD...]", runsProgram: true,
        summary: "print the words that may stand in place of the last one"
    ) { invocation in
        let words = invocation.program ?? []
        let typed = words.last ?? ""
        let candidates: [String]
        switch Completion.candidates(words, among: Command.all.filter { $0.section != .hidden }) {
        case .files: candidates = ["@files"]
        case .directories: candidates = ["@directories"]
        case .words(let all): candidates = all.filter { $0.hasPrefix(typed) }
        // Without a server, there is nothing to offer, and nobody to tell.
        case .queues: candidates = (try? queues(typed, invocation)) ?? []
        }
        if !candidates.isEmpty { Emq.print(candidates.joined(separator: "\n")) }
        return .done
    }

    private static func queues(_ prefix: String, _ invocation: Invocation) throws -> [String] {
        let client = try ServerClient(ServerPlace(invocation))
        let query: [(String, String?)] = [("prefix", prefix), ("n", "\(maximumQueueCount)")]
        var request = ServerRequest(ServerRequest.target("/queues/", query: query))
        request.timeoutMilliseconds = timeoutMilliseconds
        let response = try client.response(to: request)
        return response.json?.members.compactMap { $0.value.text } ?? []
    }

    private static let bash = #"""
        _emq() {
            local line=${COMP_LINE:0:COMP_POINT} words word kept
            # Bash splits words at colons and equals signs, too.
            read -a words <<<"$line"
            [[ $line == *[[:space:]] ]] && words+=("")
            word=${words[-1]}
            mapfile -t COMPREPLY <<<"$("${words[0]}" complete -- "${words[@]:1}" 2>/dev/null)"
            case ${COMPREPLY[0]} in
            @files) mapfile -t COMPREPLY <<<"$(compgen -f -- "$word")"; compopt -o filenames 2>/dev/null ;;
            @directories) mapfile -t COMPREPLY <<<"$(compgen -d -- "$word")"; compopt -o filenames 2>/dev/null ;;
            ?*) mapfile -t COMPREPLY <<<"$(printf '%q\n' "${COMPREPLY[@]}")" ;;
            esac
            if [[ -z ${COMPREPLY[0]} ]]; then COMPREPLY=(); fi
            # Bash replaces only what follows the last of these.
            kept=${word%"${word##*[:=]}"}
            COMPREPLY=("${COMPREPLY[@]#"$kept"}")
        }
        complete -o nosort -F _emq emq
        """#

    private static let zsh = #"""
        #compdef emq
        _emq() {
            local -a found
            found=("${(@f)$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
            case ${found[1]} in
            "") return 1 ;;
            @files) _files ;;
            @directories) _files -/ ;;
            *) compadd -Q -- "${(@q)found}" ;;
            esac
        }
        # Zsh runs this file when it first completes emq, if the file is in its fpath.
        if [[ $funcstack[1] = _emq ]]; then _emq; else compdef _emq emq; fi
        """#

    private static let fish = #"""
        function __emq_complete
            set -l found (emq complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)
            switch "$found[1]"
                case @files
                    __fish_complete_path (commandline -ct)
                case @directories
                    __fish_complete_directories (commandline -ct)
                case '*'
                    printf '%s\n' $found
            end
        end
        complete -c emq -f -a '(__emq_complete)'
        """#
}
