"""The quantisers: RTN, GPTQ, WaterSIC and waterfilling, and what they are made of."""
