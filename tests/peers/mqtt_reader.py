"""An MQTT 5 subscriber (PyPI paho-mqtt) of everything at a broker on loopback: a first line with its broker's port when it
is subscribed, then each message as one JSON line. It comes back when the broker does. Ends when its input ends.

    mqtt_reader.py PORT [USER PASSWORD]
"""

import json
import os
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

LOCK = threading.Lock()


def say(text):
    with LOCK:
        print(text, flush=True)


def main():
    port = int(sys.argv[1])
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"reader-{os.getpid()}", protocol=mqtt.MQTTv5)
    if len(sys.argv) > 3:
        client.username_pw_set(sys.argv[2], sys.argv[3])
    first = threading.Event()

    def connected(client, _data, _flags, reason, _properties):
        if not reason.is_failure:
            client.subscribe("#", options=SubscribeOptions(qos=1, retainAsPublished=True))

    def subscribed(_client, _data, _mid, _reasons, _properties):
        if not first.is_set():
            first.set()
            say(port)

    def message(_client, _data, message):
        properties = message.properties
        say(json.dumps({
            "topic": message.topic,
            "payload": message.payload.decode(),
            "retain": bool(message.retain),
            "qos": message.qos,
            "expiry": getattr(properties, "MessageExpiryInterval", None),
            "type": getattr(properties, "ContentType", None),
            "properties": dict(getattr(properties, "UserProperty", [])),
        }))

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, message
    client.reconnect_delay_set(1, 1)
    # the broker keeps what comes while we are away
    session = Properties(PacketTypes.CONNECT)
    session.SessionExpiryInterval = 3600
    client.connect("127.0.0.1", port, clean_start=False, properties=session)
    client.loop_start()
    sys.stdin.read()
    client.loop_stop()


if __name__ == "__main__":
    main()
