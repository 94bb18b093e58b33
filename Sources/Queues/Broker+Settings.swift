// Settings: what a program keeps beside its tasks, so that it survives a restart as they do.

extension Broker {
    /// The value of a setting; nil if it is not set. O(settings).
    public func setting(named name: [UInt8]) -> [UInt8]? {
        store.setting(named: name).map { store.settings[$0].value }
    }

    /// Sets a setting. O(settings).
    ///
    /// - Parameters:
    ///   - name: its name of 1 to 300 bytes.
    ///   - value: its value of 1 to 65,536 bytes; nil removes it.
    /// - Throws: `BrokerError.tooManySettings` beyond 1,000, `.unsupportedSetting` for another length.
    public func setSetting(_ name: [UInt8], to value: [UInt8]?) throws(BrokerError) {
        beginChange()
        try store.setSetting(name, to: value)
    }

    /// Calls `body` with the name and the value of each setting, sorted bytewise by name. O(n log n).
    public func forEachSetting(_ body: ([UInt8], [UInt8]) -> Void) {
        for setting in store.settings.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) {
            body(setting.name, setting.value)
        }
    }
}
