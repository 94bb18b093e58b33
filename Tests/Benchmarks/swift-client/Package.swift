// swift-tools-version: 6.2
// A program that depends on the client library, to measure it.

import PackageDescription

let package = Package(
    name: "swift-client",
    dependencies: [.package(name: "emq", path: "../../..")],
    targets: [
        .executableTarget(
            name: "SwiftClientBenchmark", dependencies: [.product(name: "EMQClient", package: "emq")],
            swiftSettings: [.swiftLanguageMode(.v6)])
    ])
