// One source at work.

/// A source at work. It belongs to the broker's thread.
final class Source {
    let name: [UInt8]
    private(set) var definition: SourceDefinition
    private(set) var status = SourceStatus()

    init(name: [UInt8], definition: SourceDefinition) {
        self.name = name
        self.definition = definition
        update(definition)
    }

    /// Works by another definition from now on. Its status says at once whether it is paused.
    func update(_ definition: SourceDefinition) {
        self.definition = definition
        status.state = definition.isPaused ? .paused : .connecting
    }

    /// Gives back what it has not acknowledged, and ends for good.
    func end() {}
}
