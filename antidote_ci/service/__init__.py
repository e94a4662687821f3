"""The webhook: what the Hub says, what it means, and the work that follows."""
