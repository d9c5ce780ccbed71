"""Whether the hub of pretrained weights can be reached, asked once and not for a minute and a half."""

import functools
import threading
import urllib.error
import urllib.request

import huggingface_hub.constants as hub

NO_ANSWER = 'the hub does not answer, and the weights are not in its cache'
_SECONDS = 5.0


@functools.cache
def hub_answers() -> bool:
    """Whether the Hugging Face hub answers within seconds.

    If it does not, its client is put into its own offline mode for the rest of this process: it would try again and
    again, for 92 s. In that mode, weights in its cache are still found.
    """
    if hub.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []
    # In a thread, because looking up a name has no time limit of its own.
    asking = threading.Thread(target=lambda: answers.append(_ask(hub.ENDPOINT)), daemon=True)
    asking.start()
    asking.join(2 * _SECONDS)
    if not (answers and answers[0]):
        hub.HF_HUB_OFFLINE = True
    return not hub.HF_HUB_OFFLINE


def _ask(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method='HEAD'), timeout=_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it refuses this question, but it is there
    except (OSError, ValueError):
        return False
