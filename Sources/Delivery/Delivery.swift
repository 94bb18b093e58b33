// Push: takes tasks from the broker as a worker would, and sends them to URLs.
