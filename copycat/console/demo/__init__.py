"""The demo: a tour through everything, and a crash under load with a strict account after it."""
