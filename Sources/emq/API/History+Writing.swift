// Writing rates and histories.

import JSON
import Net
import Queues

extension HistoryInterval {
    /// The intervals as clients name them.
    static let named: [String: HistoryInterval] = ["1m": .minute, "5m": .fiveMinutes]
}

extension API {
    /// Writes rates a second as a member behind others.
    static func writeRates(_ lastMinute: EventCounts, to responses: inout ResponseStream) {
        func write(_ member: StaticString, _ count: UInt64, to responses: inout ResponseStream) {
            responses.append(member)
            // To a thousandth.
            JSONWriter.writeSeconds(milliseconds: Int64(clamping: count) * 1000 / 60, to: &responses)
        }
        write(",\"rates\":{\"enqueued\":", lastMinute.enqueued, to: &responses)
        write(",\"done\":", lastMinute.done, to: &responses)
        write(",\"failed\":", lastMinute.failed, to: &responses)
        responses.append("}")
    }

    /// Writes a history as a member behind others; null if there is none. O(points).
    static func write(
        _ points: [HistoryPoint]?, _ interval: HistoryInterval, now: Int64, to responses: inout ResponseStream
    ) {
        guard let points else { return responses.append(",\"history\":null") }
        func write(
            _ member: StaticString, _ value: KeyPath<HistoryPoint, UInt32>, to responses: inout ResponseStream
        ) {
            responses.append(member)
            for index in points.indices {
                responses.append(index == 0 ? "" : ",")
                JSONWriter.writeInteger(points[index][keyPath: value], to: &responses)
            }
            responses.append("]")
        }
        func write(
            _ member: StaticString, _ value: KeyPath<HistoryPoint, CodedDuration>, to responses: inout ResponseStream
        ) {
            responses.append(member)
            for index in points.indices {
                responses.append(index == 0 ? "" : ",")
                JSONWriter.writeSeconds(milliseconds: points[index][keyPath: value].milliseconds, to: &responses)
            }
            responses.append("]")
        }
        let seconds = Int64(interval.rawValue)
        writeCount(",\"history\":{\"interval\":", seconds, to: &responses)
        writeCount(",\"end\":", now / 1000 / seconds * seconds, to: &responses)
        write(",\"enqueued\":[", \.enqueued, to: &responses)
        write(",\"done\":[", \.done, to: &responses)
        write(",\"failed\":[", \.failed, to: &responses)
        write(",\"ready\":[", \.ready, to: &responses)
        write(",\"dead\":[", \.dead, to: &responses)
        write(",\"oldest_ready\":[", \.oldestReadySeconds, to: &responses)
        write(",\"wait_mean\":[", \.waitMean, to: &responses)
        write(",\"wait_max\":[", \.waitMaximum, to: &responses)
        write(",\"run_mean\":[", \.runMean, to: &responses)
        write(",\"run_max\":[", \.runMaximum, to: &responses)
        responses.append("}")
    }
}
