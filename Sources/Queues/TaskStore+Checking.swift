// Checking the store's structures against each other.

extension TaskStore {
    /// Checks lists, counts, timers, keys, sweeps and bytes against each other. O(n).
    func checkInvariants() {
        tasks.checkInvariants()
        extrasTable.checkInvariants()
        queues.checkInvariants()
        precondition(timers.checkInvariants(in: tasks) == tasks.count, "a task has no timer, or a timer no task")
        var counted = InlineArray<10, Int>(repeating: 0)
        var held: [Slot: UInt32] = [:]
        var (listed, bytes, withContent, withExtras, replacements) = (0, 0, 0, 0, 0)
        tasks.forEach { slot in
            let state = tasks[slot].state
            precondition(state != .vacant, "a task is in a vacant slot")
            counted[Int(state.rawValue)] += 1
            listed += state.isListed ? 1 : 0
            held[tasks[slot].queue, default: 0] += 1
            bytes += tasks[slot].content.heapBytes
            withContent += tasks[slot].content.count > 0 ? 1 : 0
            replacements += extras(of: slot)?.replacement?.content.count ?? 0 > 0 ? 1 : 0
            withExtras += tasks[slot].extras == 0 ? 0 : 1
            precondition(tasks[slot].extras == 0 || extras(of: slot)?.task == slot, "extras of another task")
            precondition(state != .ready || tasks[slot].readySince != .max, "a ready task without a time")
            precondition(state != .hidden || extras(of: slot)?.holdsKey == true, "a hidden task that holds no key")
        }
        precondition(bytes == contentBytes, "the bytes of contents are miscounted")
        precondition(contents.checkInvariants() == withContent + replacements, "a content that no task has")
        for index in counted.indices {
            precondition(counted[index] == populations[index], "the tasks of a state are miscounted")
        }
        checkExtras(count: withExtras)
        checkQueues(held: held, listed: listed)
        for sweep in sweeps { sweep.checkInvariants(in: tasks) }
        let settingImageBytes = checkSettings()
        if isJournaled { checkImages(settingImageBytes: settingImageBytes) }
        precondition(endings.isEmpty, "an end was not reported to its waiters")
    }

    private func checkImages(settingImageBytes: Int) {
        var imaged = 0
        tasks.forEach { slot in
            let hasImage = images[slot].fullSequence != 0
            imaged += hasImage ? 1 : 0
            precondition(hasImage || images[slot].change.contains(.full), "the journal would lose a task")
        }
        var queueBytes = 0
        queues.forEach { queueBytes += Int(queues[$0].imageBytes) }
        precondition(
            images.checkInvariants(otherBytes: queueBytes + settingImageBytes) == imaged, "an image of no task")
        queues.forEach { queue in
            queues[queue].forEachList { list in
                var last = Int64.min
                list.checkInvariants(in: tasks) { slot in
                    precondition(images[slot].position > last, "positions out of order")
                    last = images[slot].position
                }
            }
        }
    }

    private func checkExtras(count: Int) {
        var bytes = 0
        extrasTable.forEach { place in
            guard let extras = extrasTable[place].extras else { preconditionFailure("vacant extras") }
            bytes += extras.byteCount
            precondition(tasks[extras.task].extras == place, "a task does not know its extras")
            let state = tasks[extras.task].state
            if extras.holdsKey {
                precondition(!extras.key.isEmpty, "an empty key is held")
                let holder = holder(of: extras.key, in: tasks[extras.task].queue)
                precondition(holder == extras.task, "two tasks hold a key, or it is not found")
            } else {
                precondition(extras.key.isEmpty || !state.isUnfinished, "an unfinished task does not hold its key")
                precondition(
                    extrasTable[place].hash == tasks[extras.task].hash, "extras without a key are registered by one")
            }
            precondition(extras.replacement == nil || state == .dispatched, "a replacement without a dispatch")
            precondition(
                extras.waiters.isEmpty || state.isUnfinished || state == .pendingRemoval, "a wait for what has ended")
            for (position, waiter) in extras.waiters.enumerated() {
                precondition(waiter.resultPosition == position && waiter.isWaiting, "a misregistered wait for a result")
                precondition(waiter.task == tasks[extras.task].id, "a wait for the result of another task")
            }
        }
        checkKeyGroups()
        var ofConfigurations = 0
        queues.forEach { ofConfigurations += queues[$0].configuration?.byteCount ?? 0 }
        precondition(ofConfigurations == configurationBytes, "the bytes of configurations are miscounted")
        precondition(bytes == extrasBytes, "the bytes of extras are miscounted")
        precondition(extrasTable.count == count, "extras without a task")
    }

    /// Checks that a ready task is in the list of tasks to send if it is to be sent, or until it is given to workers or
    /// expires.
    private func checkReady(_ slot: Slot) {
        let queue = tasks[slot].queue
        let isGiven = sweeps.contains { $0.queue == queue && $0.action == .giveToWorkers }
        if tasks[slot].isPushed {
            let isStray = isGiven || tasks[slot].deadline <= clock
            precondition(isToBeSent(slot) || isStray, "a task for workers stays in the list of tasks to send")
        } else {
            precondition(!hasRequest(slot), "a task to be sent is in the list for workers")
        }
        let isTold = queues[queue].isSendable || queues[queue].pause == .paused || !sending.isOn
        precondition(isTold || !isToBeSent(slot), "push is not told of a task to send")
    }

    private func checkQueues(held: [Slot: UInt32], listed: Int) {
        checkSampling()
        recentQueues.checkInvariants(in: queues)
        var (idleCount, pausedCount, seen): (UInt32, Int, Int) = (0, 0, 0)
        queues.forEach { queue in
            var sends = 0
            queues[queue].checkInvariants(in: tasks) { slot in
                precondition(tasks[slot].queue == queue, "a task in the list of another queue")
                if tasks[slot].state == .dispatched, tasks[slot].isPushed { sends += 1 }
                if tasks[slot].state == .ready { checkReady(slot) }
                seen += 1
            }
            precondition(queues[queue].tasks == held[queue, default: 0], "a queue miscounts its tasks")
            precondition(Int(queues[queue].sends) == sends, "a queue miscounts the tasks that are being sent")
            precondition(queues[queue].wanted == 0, "a take left its mark")
            let sweeping = sweeps.count { $0.queue == queue } + sweeps.count { $0.target == queue }
            precondition(Int(queues[queue].sweeps) == sweeping, "a queue miscounts its sweeps")
            idleCount += queues[queue].isIdle ? 1 : 0
            pausedCount += queues[queue].pause == .paused ? 1 : 0
        }
        precondition(seen == listed, "a task is in no list")
        precondition(pausedCount == pausedQueueCount, "paused queues are miscounted")
        idle.checkInvariants(in: queues) { precondition(queues[$0].isIdle, "a queue in use among the idle ones") }
        precondition(idle.count == idleCount, "an idle queue is not listed")
    }
}
