"""A customer-support agent: what it costs as it is, laid out, and with repeated questions answered from a cache."""
