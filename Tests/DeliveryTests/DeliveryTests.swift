// Push under virtual time.
