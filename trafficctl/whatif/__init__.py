"""What other rules would have done to the flows that were seen: judged by columns, beside the daemon."""
