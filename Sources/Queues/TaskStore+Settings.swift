// Settings: small named values that the broker keeps beside its tasks. There are few, so they are in an array, in the
// order of their images: the first one says which frames of a journal are still needed.

/// A small named value.
struct Setting {
    let name: [UInt8]
    var value: [UInt8]
    /// The sequence number of the frame with its image, 0 if there is none yet, and the image's size.
    var imageSequence: UInt64 = 0
    var imageBytes = 0
    /// Whether it has to be written again.
    var isChanged = false

    /// The approximate memory that it takes, in bytes.
    var byteCount: Int { MemoryLayout<Setting>.stride + 64 + name.count + value.count }
}

extension TaskStore {
    /// The maximum number of settings, and of bytes in the name and in the value of one.
    static var maximumSettings: Int { 1000 }
    static var maximumSettingNameBytes: Int { 300 }
    static var maximumSettingBytes: Int { 65_536 }

    /// The place of a setting. O(settings).
    func setting(named name: [UInt8]) -> Int? { settings.firstIndex { $0.name == name } }

    /// Sets a setting; nil removes it. O(settings).
    mutating func setSetting(_ name: [UInt8], to value: [UInt8]?) throws(BrokerError) {
        guard 1...Self.maximumSettingNameBytes ~= name.count,
            1...Self.maximumSettingBytes ~= value?.count ?? 1
        else { throw .unsupportedSetting }
        let place = setting(named: name)
        if value == place.map({ settings[$0].value }) { return }
        guard place != nil || settings.count < Self.maximumSettings else { throw .tooManySettings }
        if isJournaled {
            images.hasAwaited = true
            images.pendingBytes += name.count + (value?.count ?? 0) + 20
        }
        guard let value else {
            guard let place else { return }
            let sequence = settings[place].imageSequence
            if isJournaled, sequence != 0 { images.removedSettings.append((name, sequence)) }
            return removeSetting(at: place)
        }
        guard let place else {
            settings.append(Setting(name: name, value: value))
            settingBytes += settings[settings.count - 1].byteCount
            return noteSetting(at: settings.count - 1)
        }
        settingBytes += value.count - settings[place].value.count
        settings[place].value = value
        noteSetting(at: place)
    }

    private mutating func removeSetting(at place: Int) {
        let setting = settings.remove(at: place)
        settingBytes -= setting.byteCount
        images.liveBytes -= setting.imageBytes
    }

    /// Has a setting written.
    private mutating func noteSetting(at place: Int) {
        guard isJournaled, !settings[place].isChanged else { return }
        settings[place].isChanged = true
        images.hasChangedSettings = true
    }

    // MARK: Images

    /// Writes the settings that have changed since the last call.
    mutating func writeSettings(into writer: inout ImageWriter) {
        for (name, sequence) in images.removedSettings {
            images.oldestRenewed = min(images.oldestRenewed, sequence)
            writer.append(.setting)
            var image = SettingImage(name: name)
            image.code(&writer)
        }
        images.removedSettings = []
        guard images.hasChangedSettings else { return }
        images.hasChangedSettings = false
        let changed = settings.filter(\.isChanged)
        for setting in changed where setting.imageSequence != 0 {
            images.oldestRenewed = min(images.oldestRenewed, setting.imageSequence)
            images.liveBytes -= setting.imageBytes
        }
        settings.removeAll(where: \.isChanged)
        for setting in changed {
            let start = writer.count
            writer.append(.setting)
            var image = SettingImage(name: setting.name, value: setting.value)
            image.code(&writer)
            appendImaged(setting, sequence: images.sequence, byteCount: writer.count - start)
        }
    }

    /// Restores a setting from its image.
    mutating func restore(
        _ image: SettingImage, sequence: UInt64, byteCount: Int
    ) throws(ImageError) {
        if let place = setting(named: image.name) { removeSetting(at: place) }
        if image.value.isEmpty { return }
        guard settings.count < Self.maximumSettings else { throw ImageError(problem: "too many settings") }
        let setting = Setting(name: image.name, value: image.value)
        settingBytes += setting.byteCount
        appendImaged(setting, sequence: sequence, byteCount: byteCount)
    }

    private mutating func appendImaged(_ setting: Setting, sequence: UInt64, byteCount: Int) {
        var setting = setting
        (setting.imageSequence, setting.imageBytes, setting.isChanged) = (sequence, byteCount, false)
        settings.append(setting)
        images.liveBytes += byteCount
    }

    /// The sequence number of the oldest frame with the image of a setting that the journal needs; nil if there is none.
    /// O(changes).
    var firstSettingImage: UInt64? {
        (images.removedSettings.map(\.sequence) + settings.prefix(1).map(\.imageSequence)).filter { $0 != 0 }.min()
    }

    /// Makes the oldest images of settings be written again.
    ///
    /// - Parameters:
    ///   - rest: how many bytes of images to write again; receives what is left of them.
    ///   - sequence: only images in frames before this one are written again.
    mutating func renewSettings(_ rest: inout Int, before sequence: UInt64) {
        for place in settings.indices {
            let imageSequence = settings[place].imageSequence
            guard rest > 0, imageSequence != 0, imageSequence < sequence else { return }
            rest -= settings[place].imageBytes
            images.pendingBytes += settings[place].imageBytes
            noteSetting(at: place)
        }
    }

    // MARK: Checks

    /// Checks the settings. O(n²) for n settings.
    ///
    /// - Returns: the size of their images.
    func checkSettings() -> Int {
        var (bytes, imageBytes, last) = (0, 0, UInt64(0))
        for (place, setting) in settings.enumerated() {
            precondition(self.setting(named: setting.name) == place, "a setting is there twice")
            bytes += setting.byteCount
            imageBytes += setting.imageBytes
            let isWritten = setting.imageSequence != 0
            precondition(isWritten || setting.isChanged || !isJournaled, "the journal would lose a setting")
            precondition(!isWritten || last != .max && setting.imageSequence >= last, "settings out of order")
            precondition(setting.imageSequence < images.sequence, "a setting in a frame that is not written yet")
            last = isWritten ? setting.imageSequence : .max
        }
        precondition(bytes == settingBytes, "the bytes of settings are miscounted")
        return imageBytes
    }
}
