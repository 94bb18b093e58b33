// The namespace of the functions that read single values: JSONValue+Numbers.swift, JSONValue+Strings.swift.

/// Reads single values from their exact bytes, as ``JSONScanner`` has validated and delimited them.
///
/// For bytes that are not a valid value, the functions return an error or some value, but never trap.
public enum JSONValue {}
