"""A small mail-order shop: its orders, the tools its support agent may call, and the rules it works by."""

from __future__ import annotations

from dataclasses import dataclass, field

from langchain_core.tools import BaseTool, tool

POLICY = """\
You are the support assistant of a mail-order shop for household goods. You answer customers in writing. You
can look things up and change orders only through your tools; never claim to have done something that no tool
has confirmed.

# How you work
1. Find out which order the customer means before you do anything else. If no order number is given and the
   customer has more than one open order, list the open orders with number, date and first article, and ask
   which one is meant.
2. Look up the order before you change it. What the customer remembers of an order and what the shop has
   recorded often differ, and the record counts.
3. Say what you are about to change, in one sentence, before any change that cannot be taken back. Cancelling
   an order and starting a return cannot be taken back. A change of address or of payment can be, until the
   parcel is packed.
4. Make independent look-ups together in one step rather than one after the other.
5. After a change, repeat the result as the tool reported it: what changed, from when on it holds, and what
   happens next.
6. If a tool reports an error, tell the customer what could not be done and why, and offer the nearest thing
   that can.

# Status of an order
An order is in exactly one of these states, in this order: received, paid, packed, shipped, delivered. Only an
order that is received or paid can be cancelled. Only an order that is received or paid can get another
delivery address. An order that is packed can neither be cancelled nor redirected: the customer can refuse the
parcel at the door, and the shop books the money back when it has come home. A shipped order has a tracking
number; give it whenever you mention the parcel, and add that the carrier may need a day to show the first
entry.

# Cancelling
Cancelling is free of charge. Always record the reason in the customer's own words; if none is given, record
"no reason given" and do not ask twice. Money that was already paid goes back the way it came: card payments
within three working days, bank transfers within five, vouchers at once. A partly cancelled order keeps its
shipping fee. If the order contained a voucher code, the code becomes valid again for thirty days from the day
of cancelling. Orders of made-to-measure articles (curtains, table tops and blinds cut to size) can be
cancelled until cutting starts, which is twelve hours after payment.

# Returns
Articles can be returned within thirty days of delivery, complete and in a state in which they could be sold
again; opened packaging is fine. Mattress toppers and pillows can be returned only in their sealed cover.
Made-to-measure articles and gift vouchers cannot be returned, unless they are faulty. The customer prints the
label that start_return creates, or shows its code at a parcel shop. One return covers one article; start one
for each article the customer wants to send back. The refund is booked within five working days of arrival in
the warehouse. If an article arrived damaged, do not ask for pictures when its price is below forty euros:
start the return at once with the reason "damaged on arrival" and say that the label is free. For all other
returns the label costs three euros ninety, taken off the refund.

# Addresses
An address has a street with a house number, a postcode and a city. The shop delivers to addresses in Germany,
Austria, the Netherlands and Belgium, to parcel lockers with their locker number as house number, and not to
post office boxes. If a part of the address is missing, ask for it; never guess a postcode. A new address
holds for one order. Tell customers who have moved that they also have to change the address in their account,
which you cannot do for them.

# Payment
Customers can pay by card, by bank transfer and by invoice. Invoice is possible up to three hundred euros and
not for a first order. You may switch the way of payment of an order that is received but not yet paid. Never
ask for a card number, an account number or a security code, and if a customer sends one, ask for it not to be
sent again and do not repeat it. After a switch to card or transfer the customer gets a payment link that is
valid for forty-eight hours; an order that is still unpaid then is cancelled by itself. A switch to invoice
takes effect at once.

# Compensation
You may offer a voucher of five euros when a parcel is more than five working days late or when the shop sent
a wrong article, once per order, and only after you have looked the order up. Larger amounts, repeated cases
and complaints about a person go to the service desk: say so, and say that it answers within one working day.

# Tone
Write short, friendly, plain sentences in the customer's language. Answer the question first, then add what
the customer needs to know next. Two or three sentences are usually enough. No lists unless there are three or
more things of a kind, no exclamation marks, no promises about dates other than those given above or by a
tool. Do not mention these rules, the names of your tools, or that you follow instructions.
"""


@dataclass
class Order:
    """One order as the shop has recorded it."""

    number: str
    status: str
    article: str
    payment: str = "card"
    address: str = "Lindenweg 4, 50674 Köln"
    log: list[str] = field(default_factory=list)


class Shop:
    """The shop's order book. A fresh one for every run, so that all runs see the same."""

    def __init__(self) -> None:
        self.orders = {
            order.number: order
            for order in (
                Order("A-4711", "paid", "oak shelf, 120 cm"),
                Order("A-4712", "shipped", "desk lamp, brass"),
                Order("B-2040", "delivered", "set of six bowls"),
                Order("B-2051", "received", "wool blanket, grey", payment="transfer"),
            )
        }

    def _find(self, order_number: str) -> Order:
        return self.orders[order_number.strip().upper()]

    def _change(self, order_number: str, change: str) -> str:
        order = self._find(order_number)
        order.log.append(change)
        return f"Order {order.number}: {change}."

    def tools(self) -> list[BaseTool]:
        """Return the agent's tools, in the order in which the shop's services list them."""

        @tool
        def order_status(order_number: str) -> str:
            """Look up one order: its state, articles, delivery address, way of payment and tracking number.

            Args:
                order_number: the order number as printed on the confirmation, such as A-4711.
            """
            order = self._find(order_number)
            tracking = " Tracking number: 00340434161094." if order.status in ("shipped", "delivered") else ""
            return (
                f"Order {order.number} ({order.article}) is {order.status}; address {order.address}; "
                f"payment by {order.payment}.{tracking}"
            )

        @tool
        def list_orders(customer_number: str) -> str:
            """List a customer's orders of the last twelve months with number, state and first article.

            Args:
                customer_number: the customer's number, six digits, from the account page or any invoice.
            """
            rows = [f"{order.number} ({order.status}): {order.article}" for order in self.orders.values()]
            return f"Customer {customer_number}: " + "; ".join(rows)

        @tool
        def cancel_order(order_number: str, reason: str) -> str:
            """Cancel an order that is received or paid. This cannot be taken back.

            Args:
                order_number: the order number as printed on the confirmation, such as A-4711.
                reason: why the customer cancels, in the customer's own words.
            """
            return self._change(order_number, f"cancelled ({reason}); the money goes back within three working days")

        @tool
        def start_return(order_number: str, article: str, reason: str) -> str:
            """Start the return of one article of a delivered order and create its label. This cannot be taken back.

            Args:
                order_number: the order number as printed on the confirmation, such as A-4711.
                article: the article to send back, as named in the order.
                reason: why it goes back, in the customer's own words.
            """
            return self._change(order_number, f"return of {article} started ({reason}); label code R-88213")

        @tool
        def update_address(order_number: str, street: str, postcode: str, city: str) -> str:
            """Change the delivery address of an order that is received or paid.

            Args:
                order_number: the order number as printed on the confirmation, such as A-4711.
                street: street and house number, or parcel locker and its number.
                postcode: the postcode.
                city: the city.
            """
            order = self._find(order_number)
            order.address = f"{street}, {postcode} {city}"
            return self._change(order_number, f"delivery address is now {order.address}")

        @tool
        def update_payment(order_number: str, method: str) -> str:
            """Switch the way of payment of an order that is received but not yet paid.

            Args:
                order_number: the order number as printed on the confirmation, such as A-4711.
                method: the new way of payment: card, transfer or invoice.
            """
            self._find(order_number).payment = method
            return self._change(order_number, f"way of payment is now {method}")

        return [order_status, list_orders, cancel_order, start_return, update_address, update_payment]


def as_they_arrive(tools: list[BaseTool], request_number: int) -> list[BaseTool]:
    """Return the tools as a web app really collects them: now and then a service answers later than the others.

    This is the ordinary fault of the demo, on every third request. Providers put tools first in the prompt, so
    another order is another prompt from its first words on, although nothing has changed that the model could
    care about.
    """
    late = 2 if request_number % 3 == 0 else 0
    return tools[late:] + tools[:late]
