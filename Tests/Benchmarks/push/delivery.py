"""How fast emq delivers tasks to nginx."""

import http.client, json, os, socket, subprocess, sys, time


def wait_for(port):
    deadline = time.time() + 10
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.time() > deadline:
                sys.exit(f"nothing listens at port {port}")
            time.sleep(0.02)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure_emq(emq, url, tasks, connections, *options):
    """Sends so many tasks from the first core: deliveries a second, and µs of CPU for each."""
    port = free_port()
    server = subprocess.Popen(
        ["taskset", "-c", "0", emq, "--addr", f"127.0.0.1:{port}", "--push", "loopback", *options],
        stderr=subprocess.DEVNULL)
    wait_for(port)
    client = http.client.HTTPConnection("127.0.0.1", port)

    def call(method, path, body=None):
        client.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
        response = client.getresponse()
        text = response.read()
        if response.status != 200:
            sys.exit(f"{method} {path}: {response.status} {text}")
        return json.loads(text)

    try:
        call("PUT", "/config/q", {"push": {"url": url, "concurrency": connections}})
        call("POST", "/pause/q")
        for first in range(0, tasks, 10_000):
            call("POST", "/enqueue/q", [{"content": "x" * 98}] * min(10_000, tasks - first))
        cpu = cpu_seconds(server.pid)
        begin = time.time()
        call("POST", "/resume/q")
        while (acked := call("GET", "/stats/q")["totals"]["acked"]) < tasks:
            # Rarely enough to cost nothing.
            time.sleep(0.05)
            if time.time() > begin + 120:
                sys.exit(f"only {acked} tasks were delivered")
        seconds = time.time() - begin
        return tasks / seconds, (cpu_seconds(server.pid) - cpu) / tasks * 1e6
    finally:
        server.kill()
        server.wait()
