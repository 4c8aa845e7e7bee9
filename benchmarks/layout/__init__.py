"""What prompt layout costs: recorded workloads, replayed in order under the providers' cache rules."""
