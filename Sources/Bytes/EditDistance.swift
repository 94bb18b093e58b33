// The edit distance of words, for suggestions such as "did you mean".

/// The number of bytes to insert, delete, replace, or swap with their neighbour to turn one word into the other.
///
/// This is the restricted distance of Damerau and Levenshtein (optimal string alignment): no part of a word is changed
/// twice.
///
/// - Parameters:
///   - first: A word.
///   - second: Another word.
/// - Returns: The number of changes.
/// - Complexity: O(*m* · *n*) for words of *m* and *n* bytes.
public func editDistance(_ first: [UInt8], _ second: [UInt8]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...second.count)
    for row in first.indices {
        var current = [row + 1]
        for column in second.indices {
            let isSame = first[row] == second[column]
            var best = min(last[column + 1] + 1, current[column] + 1, last[column] + (isSame ? 0 : 1))
            if row > 0, column > 0, first[row] == second[column - 1], first[row - 1] == second[column] {
                best = min(best, beforeLast[column - 1] + 1)
            }
            current.append(best)
        }
        beforeLast = last
        last = current
    }
    return last[second.count]
}
