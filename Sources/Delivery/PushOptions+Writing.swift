// Writes push options as JSON: whole, to store them, or masked, to show them.

import JSON

extension PushOptions {
    /// Appends the options as a JSON object.
    ///
    /// - Parameters:
    ///   - isMasked: whether to write `***` in place of header values and secrets.
    ///   - output: where to append.
    public func write(isMasked: Bool, to output: inout (some JSONOutput & ~Copyable)) {
        var isFirst = true
        func begin(_ name: StaticString, _ output: inout (some JSONOutput & ~Copyable)) {
            output.append(isFirst ? UInt8(ascii: "{") : UInt8(ascii: ","))
            isFirst = false
            let bytes = Array("\"\(name)\":".utf8)
            output.append(bytes.span)
        }
        func writeText(_ name: StaticString, _ text: [UInt8]?, _ output: inout (some JSONOutput & ~Copyable)) {
            guard let text else { return }
            begin(name, &output)
            JSONWriter.writeString(text.span, to: &output)
        }
        writeText("url", url.map { Array($0.description.utf8) }, &output)
        writeText("method", method, &output)
        if !headers.isEmpty {
            begin("headers", &output)
            for (index, header) in headers.enumerated() {
                output.append(index == 0 ? UInt8(ascii: "{") : UInt8(ascii: ","))
                JSONWriter.writeString(header.name.span, to: &output)
                output.append(UInt8(ascii: ":"))
                let value = isMasked ? Self.mask : header.value
                JSONWriter.writeString(value.span, to: &output)
            }
            output.append(UInt8(ascii: "}"))
        }
        if let body {
            begin("body", &output)
            output.append(body.span)
        }
        if let timeoutMilliseconds {
            begin("timeout", &output)
            JSONWriter.writeSeconds(milliseconds: timeoutMilliseconds, to: &output)
        }
        writeText("on_dead", onDead.map { Array($0.description.utf8) }, &output)
        if isNotice, !isMasked {
            begin("on_dead", &output)
            let null = Array("null".utf8)
            output.append(null.span)
        }
        if let concurrency {
            begin("concurrency", &output)
            JSONWriter.writeInteger(Int64(concurrency), to: &output)
        }
        writeText("rate", rate.map { Array($0.description.utf8) }, &output)
        if let circuit {
            begin("circuit", &output)
            output.append(Array("{\"failures\":".utf8).span)
            JSONWriter.writeInteger(Int64(circuit.failures), to: &output)
            output.append(Array(",\"pause\":".utf8).span)
            JSONWriter.writeSeconds(milliseconds: circuit.pauseMilliseconds, to: &output)
            output.append(UInt8(ascii: "}"))
        }
        writeText("signature", signature.map { Array($0.rawValue.utf8) }, &output)
        let secrets = isMasked ? secrets.map { _ in Self.mask } : secrets
        if secrets.count > 1 {
            begin("secrets", &output)
            for (index, secret) in secrets.enumerated() {
                output.append(index == 0 ? UInt8(ascii: "[") : UInt8(ascii: ","))
                JSONWriter.writeString(secret.span, to: &output)
            }
            output.append(UInt8(ascii: "]"))
        } else {
            writeText("secret", secrets.first, &output)
        }
        writeText("ca", ca, &output)
        if isFirst { output.append(UInt8(ascii: "{")) }
        output.append(UInt8(ascii: "}"))
    }
}
