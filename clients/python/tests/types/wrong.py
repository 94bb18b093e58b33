"""What type checkers must refuse: each line that says so. Not run."""

import emq

app = emq.App()


@app.task(queue="mail")
def send(to: int, subject: str = "hello") -> str:
    return subject + str(to)


@app.task()
async def add(a: int, b: int) -> int:
    return a + b


send.enqueue()  # wrong
send.enqueue(to="ann")  # wrong
send.enqueue(to=1, too=2)  # wrong
send("ann")  # wrong
send.bind("ann")  # wrong
add.enqueue_async(1, "2")  # wrong
number: int = send.enqueue(to=1).result()  # wrong
text: str = add.enqueue(1, 2).result()  # wrong
send.options(delay="soon")  # wrong
send.options(dealy=3)  # wrong
send.options(on_conflict="replac")  # wrong
send.enqueue_many([add.bind(1, 2)])  # wrong
app.task(queue=3)  # wrong
app.task(key="one")  # wrong
app.task(send)  # wrong
app.work(pool="processes")  # wrong
