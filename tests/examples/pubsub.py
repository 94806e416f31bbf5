"""Publish and subscribe: a `Registry` with duplicate keys and its `dispatch` are all it takes.

A subscriber registers itself under a topic, with whatever the publisher should know of it. Publishing is a loop over
those who have, in the publisher's own process: nobody in between could be slow, or crash. Who ends is no subscriber any
more.
"""

from __future__ import annotations

from otplib import GenServer, NoReply, Ok, Pid, Registry, Supervisor, receive, run, self_, send

Entries = list[tuple[Pid, str]]


class Reader(GenServer[Pid]):
    """Subscribes to a topic in one language; reports what it reads."""

    def init(self, arg: tuple[str, str, Pid]) -> Ok[Pid]:
        topic, language, reporter = arg
        Registry.register("news", topic, language)
        return Ok(reporter)

    def handle_info(self, message: tuple[str, str], reporter: Pid) -> NoReply[Pid]:
        send(reporter, (self_(), message))
        return NoReply(reporter)


def publish(topic: str, texts: dict[str, str]) -> None:
    """Send everybody under this topic the text in their language."""

    def deliver(entries: Entries) -> None:
        for pid, language in entries:
            send(pid, (topic, texts[language]))

    Registry.dispatch("news", topic, deliver)


async def main() -> None:
    await Supervisor.start_link([(Registry, {"keys": "duplicate", "name": "news"})], strategy="one_for_one")
    me = self_()
    names = {
        await Reader.start_link(("sport", "en", me)): "Ann",
        await Reader.start_link(("sport", "fr", me)): "Zoé",
        await Reader.start_link(("politics", "en", me)): "Bob",
    }
    publish("sport", {"en": "goal!", "fr": "but !"})
    for _ in range(2):
        reader, (topic, text) = await receive((Pid, tuple))
        print(f"{names[reader]} reads of {topic}: {text}")

    ann = next(pid for pid, name in names.items() if name == "Ann")
    await GenServer.stop(ann)
    publish("sport", {"en": "another one!", "fr": "encore un !"})
    reader, (topic, text) = await receive((Pid, tuple))
    print(f"{names[reader]} reads of {topic}: {text}")
    publish("weather", {})  # nobody listens
    print("subscribers:", len(Registry.lookup("news", "sport")), len(Registry.lookup("news", "weather")))


if __name__ == "__main__":
    run(main)
