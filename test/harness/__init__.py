"""What the integration and fault tests stand on: private servers, the binary under test, senders
that keep a ledger, and faults. Nothing here waits for time; everything waits for a condition."""
