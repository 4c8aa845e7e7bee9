"""What the model says in the simulated runs: a table from a customer's message to the agent's steps."""

from __future__ import annotations

from prefixcache_integrations.canonical import Message, Request
from prefixcache_integrations.server import Reply, ToolUse

STEPS: dict[str, list[Reply]] = {
    "Good morning, where are": [
        Reply(
            tool_calls=(
                ToolUse("order_status", {"order_number": "A-4711"}),
                ToolUse("order_status", {"order_number": "A-4712"}),
            )
        ),
        Reply(
            text="Good morning. Your oak shelf, A-4711, is paid and will be packed next. Your desk lamp, A-4712, is on "
            "its way with tracking number 00340434161094; the carrier may need a day to show the first entry."
        ),
    ],
    "Then please send A-4711": [
        Reply(tool_calls=(ToolUse("order_status", {"order_number": "A-4711"}),)),
        Reply(
            text="I am changing the delivery address of A-4711 to Am Markt 9, 53111 Bonn.",
            tool_calls=(
                ToolUse(
                    "update_address",
                    {
                        "order_number": "A-4711",
                        "street": "Am Markt 9",
                        "postcode": "53111",
                        "city": "Bonn",
                    },
                ),
            ),
        ),
        Reply(
            text="Done: A-4711 now goes to Am Markt 9, 53111 Bonn. This holds for this order only, so please change "
            "the address in your account as well."
        ),
    ],
    "On second thoughts": [
        Reply(
            tool_calls=(
                ToolUse(
                    "cancel_order",
                    {"order_number": "A-4711", "reason": "found a used one"},
                ),
            )
        ),
        Reply(text="A-4711 is cancelled, and the money goes back to your card within three working days."),
    ],
    "One of the bowls": [
        Reply(tool_calls=(ToolUse("order_status", {"order_number": "B-2040"}),)),
        Reply(
            tool_calls=(
                ToolUse(
                    "start_return",
                    {
                        "order_number": "B-2040",
                        "article": "set of six bowls",
                        "reason": "damaged on arrival",
                    },
                ),
            )
        ),
        Reply(
            text="I am sorry about that. I have started the return, and the label is free: show the code R-88213 at a "
            "parcel shop. The refund is booked within five working days of arrival in our warehouse."
        ),
    ],
    "Thanks. And please let me": [
        Reply(tool_calls=(ToolUse("order_status", {"order_number": "B-2051"}),)),
        Reply(tool_calls=(ToolUse("update_payment", {"order_number": "B-2051", "method": "invoice"}),)),
        Reply(text="You can now pay B-2051 by invoice. The switch takes effect at once."),
    ],
    "One last thing": [
        Reply(tool_calls=(ToolUse("list_orders", {"customer_number": "204466"}),)),
        Reply(
            text="You have four orders with us: the oak shelf A-4711, the desk lamp A-4712, the bowls B-2040 and the "
            "wool blanket B-2051."
        ),
    ],
}


def answer(request: Request) -> Reply:
    """Return the agent's next step: the one after those it has already taken on the latest customer message."""
    asked, taken = 0, 0
    for index, message in enumerate(request.messages):
        if _is_customer(message):
            asked, taken = index, 0
        elif message.role == "assistant":
            taken += 1
    text = " ".join(part.text for part in request.messages[asked].parts)
    return next(steps[taken] for opening, steps in STEPS.items() if text.startswith(opening))


def _is_customer(message: Message) -> bool:
    kinds = {part.kind for part in message.parts}
    return message.role == "user" and "text" in kinds and "tool_result" not in kinds
