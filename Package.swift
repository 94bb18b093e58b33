// swift-tools-version: 6.2
// emq: a work-queue server over HTTP. docs/architecture.md describes the rooms and their imports.

import PackageDescription

/// The fuzzers need flags that a package may not pass to its dependents, so `.ci/long` requests them with EMQ_FUZZ.
let isFuzzing = Context.environment["EMQ_FUZZ"] != nil

/// The commit that `emq --version` names: `EMQ_COMMIT=$(contrib/commit) swift build`. The build tool would remember
/// what the manifest finds out by itself, so that a later build would name an old commit.
let commit = (Context.environment["EMQ_COMMIT"] ?? "").filter { $0.isHexDigit || $0 == "+" }

/// - `Lifetimes` lets a parser return structs of spans that the compiler ties to the buffer they point into.
/// - Strict memory safety requires `unsafe` at every use of an unsafe pointer.
/// - The server uses no regular expressions. Without their library, it takes a megabyte less memory.
let server: [SwiftSetting] =
    [
        .swiftLanguageMode(.v6),
        .enableExperimentalFeature("Lifetimes"),
        .strictMemorySafety(),
        .unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"]),
    ] + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"])] : [])

let tests: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
    name: "emq",
    products: [
        .executable(name: "emq", targets: ["emq"]),
        .library(name: "EMQClient", targets: ["EMQClient"]),
    ],
    targets: [
        .target(name: "CLinux"),
        .target(name: "CLibraries"),
        .target(name: "CBuild", cSettings: [.define("EMQ_COMMIT", to: "\"\(commit)\"")]),
        .target(name: "CFiles"),
        .target(name: "CProcess"),
        .target(name: "Bytes", swiftSettings: server),
        .target(name: "UID", dependencies: ["Bytes"], swiftSettings: server),
        .target(name: "JSON", dependencies: ["Bytes", "CLinux"], swiftSettings: server),
        .target(name: "Net", dependencies: ["Bytes", "CLinux", "CLibraries"], swiftSettings: server),
        .target(name: "Queues", dependencies: ["Bytes", "UID"], swiftSettings: server),
        .target(name: "Journal", dependencies: ["Bytes", "CLinux", "Queues", "UID"], swiftSettings: server),
        .target(name: "Delivery", dependencies: ["Bytes", "UID", "JSON", "Net", "Queues"], swiftSettings: server),
        .target(name: "AMQP", dependencies: ["Bytes", "CLinux", "CLibraries", "JSON", "Net"], swiftSettings: server),
        .target(name: "EMQClient", dependencies: ["Bytes", "JSON", "Net"], swiftSettings: server),
        .executableTarget(
            name: "emq",
            dependencies: [
                "CBuild", "CFiles", "CProcess", "Bytes", "CLinux", "UID", "JSON", "Net", "Queues", "Journal",
                "Delivery",
                "AMQP",
            ],
            exclude: ["Dashboard"], swiftSettings: server),
        .target(name: "Support", path: "Tests/Support", swiftSettings: tests),
        .testTarget(name: "BytesTests", dependencies: ["Bytes", "Support"], swiftSettings: tests),
        .testTarget(name: "UIDTests", dependencies: ["UID", "Support"], swiftSettings: tests),
        .testTarget(name: "JSONTests", dependencies: ["CLinux", "JSON", "Support"], swiftSettings: tests),
        .testTarget(name: "NetTests", dependencies: ["Net", "Support"], swiftSettings: tests),
        .testTarget(name: "QueuesTests", dependencies: ["Queues", "UID", "Support"], swiftSettings: tests),
        .testTarget(
            name: "JournalTests", dependencies: ["CLinux", "Journal", "Queues", "UID", "Support"], exclude: ["Golden"],
            swiftSettings: tests),
        .testTarget(
            name: "DeliveryTests", dependencies: ["Delivery", "JSON", "Net", "Queues", "UID", "Support"],
            swiftSettings: tests),
        .testTarget(
            name: "EMQClientTests", dependencies: ["EMQClient", "Net", "Support"], swiftSettings: tests),
        .testTarget(name: "AMQPTests", dependencies: ["AMQP", "CLibraries", "Net", "Support"], swiftSettings: tests),
        .testTarget(
            name: "emqTests", dependencies: ["emq", "AMQP", "Delivery", "Net", "Queues", "UID", "Support"],
            swiftSettings: tests),
    ]
)

if isFuzzing {
    let fuzz: [SwiftSetting] = server + [.unsafeFlags(["-parse-as-library"])]
    let link: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer,address", "-use-ld=lld"])]
    package.targets += [
        .executableTarget(
            name: "FuzzJSON", dependencies: ["JSON"], path: "Tests/Fuzz/FuzzJSON", swiftSettings: fuzz,
            linkerSettings: link),
        .executableTarget(
            name: "FuzzHTTP", dependencies: ["Net"], path: "Tests/Fuzz/FuzzHTTP", swiftSettings: fuzz,
            linkerSettings: link),
    ]
}
