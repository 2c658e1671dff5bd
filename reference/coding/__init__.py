"""How many bits the codes cost: histograms, rates, and Huffman lengths."""
