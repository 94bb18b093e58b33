"""What the benchmark does with pika: consumes and acknowledges messages, 100 at once, and prints the seconds.

    consume.py URL QUEUE MESSAGES PREFETCH
"""

import sys
import time

import pika

url, queue, messages, prefetch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.basic_qos(prefetch_count=prefetch)
received = 0


def take(channel, method, properties, body):
    global received
    received += 1
    if received % 100 == 0 or received == messages:
        channel.basic_ack(method.delivery_tag, multiple=True)
    if received == messages:
        channel.stop_consuming()


begin = time.monotonic()
channel.basic_consume(queue, take)
channel.start_consuming()
# The answer comes when the broker has read all acknowledgements.
channel.queue_declare(queue, passive=True)
print(time.monotonic() - begin)
