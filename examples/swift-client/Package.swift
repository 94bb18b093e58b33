// swift-tools-version: 6.2
// A program that depends on emq's client.

import PackageDescription

let package = Package(
    name: "swift-client",
    dependencies: [
        // Elsewhere, name the repository: .package(url: "https://github.com/…/emq.git", from: "0.1.0")
        .package(name: "emq", path: "../..")
    ],
    targets: [
        .executableTarget(name: "mailer", dependencies: [.product(name: "EMQClient", package: "emq")])
    ]
)
