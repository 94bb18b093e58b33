// Crashes and failures at every operation: data reported durable survives, and no other data appears.

import Support
import Testing

@testable import Journal

@Suite(.blocking) struct CrashTests {
    /// Crashes at each operation of a random run, then again while recovery cleans up, and then continues.
    @Test(arguments: 0..<max(2, testOperations / 80_000)) func recoversFromACrashAtEveryOperation(part: Int) throws {
        let seed = SeededRandom.runSeed &+ UInt64(part)
        var crash = 1
        while true {
            let comment: Comment = "\(SeededRandom()), part \(part), crash \(crash)"
            let disk = SimulatedDisk(seed: seed &+ UInt64(crash) &* 1_000_003)
            var random = SeededRandom(seed: seed)
            disk.crashesAt = crash
            var model: Model?
            do {
                model = try Model(disk, segmentByteCount: 1500)
                for _ in 0..<25 { try model?.act(&random, syncsAlways: part % 2 == 0) }
                return
            } catch is LogError {
                try #require(disk.hasCrashed, comment)
            }
            disk.restart()
            // The crash came while the log was made: there is no log, or an empty one.
            guard var model else {
                try #require(recover(disk).frames.isEmpty, comment)
                crash += 1
                continue
            }
            for round in 1...3 {
                let before = disk.operations
                disk.crashesAt = disk.operations + 1 + random.below(round * 4)
                do {
                    try model.reopen(afterCrash: true, &random, comment)
                    for _ in 0..<4 { try model.act(&random, syncsAlways: part % 2 == 0) }
                } catch is LogError {
                    try #require(disk.hasCrashed && disk.operations > before, comment)
                }
                disk.restart()
            }
            try model.reopen(afterCrash: true, &random, comment)
            for _ in 0..<4 { try model.act(&random, syncsAlways: true) }
            try model.reopen(afterCrash: false, &random, comment)
            crash += 1
        }
    }

    /// One operation fails, each of them in turn; then the process ends or the machine crashes. The log continues in a
    /// new segment.
    @Test(arguments: 0..<max(2, testOperations / 80_000)) func goesOnAfterAFailureAtEveryOperation(part: Int) throws {
        let seed = SeededRandom.runSeed &+ UInt64(part) &+ 1_000_000
        for failing in 1... {
            let comment: Comment = "\(SeededRandom()), part \(part), failure \(failing)"
            let disk = SimulatedDisk(seed: seed &+ UInt64(failing) &* 1_000_003)
            var random = SeededRandom(seed: seed)
            var model = try Model(disk, segmentByteCount: 1500)
            let start = disk.operations
            disk.failures[start + failing] = .input
            for _ in 0..<25 {
                do {
                    try model.act(&random, syncsAlways: part % 2 == 0)
                } catch let error as LogError {
                    // Preparing and deleting report the failure and can be tried again. Other operations continue.
                    try #require(error.cause == .failed, comment)
                }
                try #require(model.writer.writtenSequence == model.lastSequence, comment)
            }
            if disk.operations < start + failing { return }
            if failing % 2 == 0 { disk.restart() }
            try model.reopen(afterCrash: failing % 2 == 0, &random, comment)
            for _ in 0..<4 { try model.act(&random, syncsAlways: true) }
            disk.restart()
            try model.reopen(afterCrash: true, &random, comment)
        }
    }

    /// Random operations fail, sometimes several in a row, and then a crash follows at a random time.
    @Test(arguments: 0..<8) func losesNothingDurableWhateverFails(part: Int) throws {
        let runs = max(1, testOperations / 2_000)
        for run in 0..<runs {
            let seed = SeededRandom.runSeed &+ UInt64(part * runs + run) &+ 2_000_000
            let comment: Comment = "\(SeededRandom()), part \(part), run \(run)"
            let disk = SimulatedDisk(seed: seed)
            var random = SeededRandom(seed: seed)
            disk.dropsAfterFailedSync = run % 4 == 0
            var model = try Model(disk, segmentByteCount: 600 + random.below(3000))
            for _ in 0..<3 {
                for _ in 0..<random.below(6) {
                    disk.failures[disk.operations + random.below(60)] = random.below(2) == 0 ? .input : .space
                }
                disk.crashesAt = random.below(3) == 0 ? disk.operations + random.below(100) : .max
                let syncsAlways = random.below(2) == 0
                do {
                    for _ in 0..<20 { try model.act(&random, syncsAlways: syncsAlways) }
                } catch is LogError {}
                let crashes = disk.hasCrashed || random.below(2) == 0
                if crashes { disk.restart() } else { disk.resume() }
                // Writes that a file system drops from its cache are lost as in a crash.
                try model.reopen(afterCrash: crashes || disk.dropsAfterFailedSync, &random, comment)
            }
        }
    }
}
