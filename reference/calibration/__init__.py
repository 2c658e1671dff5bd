"""Where the second moments come from, how they are mixed, and how layers share a rate."""
