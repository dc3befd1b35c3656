"""Training, distillation and channel reduction. What the loop does is in ``loop``; nothing here prints."""
