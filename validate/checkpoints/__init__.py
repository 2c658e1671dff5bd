"""Published weight formats: what a checkpoint says, read without the package that wrote it.

elements           value sets: FP4, FP6, FP8, E8M0, MXINT8
bit_packing        numbers of b bits in 32-bit words
description        one quantised weight, the same for every format
tensor_files       safetensors files of a model, tensor by tensor
gptq  awq  compressed_tensors  fp8_blocks  gpt_oss  mlx  gguf_file
                   a file a format
reading            which format a checkpoint has, and its weights one by one
writing            a whole model directory in one of the formats
findings           what can be seen in one weight
gptq_deviations    which GPTQ made the codes
under_covariance   distortion, limit and what other methods reach, where Σ is known
audit              what a quantised model is worth, and what went wrong in it
audit_report       the audit as text, and as one file of HTML
"""
