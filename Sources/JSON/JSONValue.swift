// Namespace of the functions that read a value from its bytes: JSONValue+Numbers.swift, JSONValue+Strings.swift.

/// Reads single values from their exact bytes, as ``JSONScanner`` has validated and delimited them.
///
/// Bytes that are not a valid value give an error or some value, never a trap.
public enum JSONValue {}
