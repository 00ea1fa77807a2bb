"""Tables of the versions and operators of onnxruntime; a test compares them with onnxruntime."""

from __future__ import annotations

MAX_IR_VERSION = 14
"""Newest version of the file format."""

OPSETS = {
    "": 28,
    "ai.onnx.ml": 5,
    "ai.onnx.preview": 1,
    "ai.onnx.preview.training": 1,
    "ai.onnx.training": 1,
    "com.microsoft": 1,
    "com.microsoft.experimental": 1,
    "com.microsoft.nchwc": 1,
    "com.ms.internal.nhwc": 28,
    "org.pytorch.aten": 1,
}
"""Newest version of each operator set; the domain "" is that of ONNX, also written ai.onnx.

A file may import any version of other sets, and may define functions in their domains.
"""

STANDARD = ("", "ai.onnx.ml")
"""Domains whose operators ONNX's checker checks."""

OPERATORS = {
    "com.microsoft": frozenset(
        """
        Attention AttnLSTM BeamSearch BiasAdd BiasDropout BiasGelu BiasSoftmax
        BiasSplitGelu BifurcationDetector BitmaskBiasDropout BitmaskDropout
        BranchwiseRMSNorm CDist CausalConvWithState ComplexMul ComplexMulConj
        ConvStateReplay ConvTransposeWithDynamicPads CropAndResize DecoderAttention
        DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DequantizeBFP
        DequantizeLinear DequantizeWithOrder DynamicQuantizeLSTM DynamicQuantizeMatMul
        DynamicSparseAttention DynamicTimeWarping EPContext EmbedLayerNormalization
        EngramGate ExpandDims FastGelu FusedConv FusedGemm FusedMatMul
        FusedMatMulActivation GatedAdd GatedDeltaNet GatedDeltaNetStateReplay GatedRMSNorm
        GatedRelativePositionBias GatherBlockQuantized GatherND GatherPacked Gelu
        GemmFastGelu GemmFloat8 GemmaRotaryEmbedding GreedySearch GridSample GroupNorm
        GroupQueryAttention HyperConnectionLowRankMix HyperConnectionPostMix
        HyperConnectionPreMix Inverse Irfft IsAllFinite LinearAttention
        LinearAttentionGate LongformerAttention MRotaryEmbedding Mamba2Verify
        MatMulBlockQuantizedFp4Weight MatMulBlockQuantizedFp8Weight MatMulBnb4 MatMulFpQ4
        MatMulInteger16 MatMulIntegerToFloat MatMulNBits MatMulNBitsMlp MatMulNBitsQLoRA
        MatMulNBitsQkv MatMulPacked MaxpoolWithMask MoE MoEGroupRouter MoEPacked
        MulInteger MultiHeadAttention MurmurHash3 NGramHashMapping NGramRepeatBlock
        NhwcConv NhwcFusedConv NhwcMaxPool PackedAttention PackedMultiHeadAttention
        PackedSparseAttentionIndexer PackedSparseAttentionIndexerMerge Pad PagedAttention
        QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearAveragePool
        QLinearConcat QLinearConv QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
        QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QMoE
        QOrderedAttention QOrderedGelu QOrderedLayerNormalization
        QOrderedLongformerAttention QOrderedMatMul QuantizeBFP QuantizeLinear
        QuantizeWithOrder QuickGelu RMSNormRotary Range ReduceSumInteger
        RelativePositionBias RemovePadding RestorePadding Rfft RotaryEmbedding
        RouterGateUpProj SampleOp Sampling ScaledSiLU SkipGroupNorm SkipLayerNormalization
        SkipSimplifiedLayerNormalization Snpe SparseAttention SparseAttentionIndexer
        SparsePagedAttention SparseToDenseMatMul SpeculativePrefixCommit SwiGLU Tokenizer
        TorchEmbedding TransposeMatMul Trilu UnfoldTensor Unique VarlenCausalConvWithState
        VarlenNGramHashMapping WhisperBeamSearch WordConvEmbedding
        """.split()  # noqa: SIM905 -- a list of 150 lines would hide the names
    ),
    "com.microsoft.nchwc": frozenset(
        """
        AveragePool Conv GlobalAveragePool GlobalMaxPool MaxPool ReorderInput
        ReorderOutput Upsample
        """.split()  # noqa: SIM905 -- a list of 150 lines would hide the names
    ),
    "com.ms.internal.nhwc": frozenset(
        """
        AveragePool BatchNormalization Conv ConvTranspose DepthToSpace GlobalAveragePool
        GlobalLpPool GlobalMaxPool GridSample InstanceNormalization LRN LpPool MaxPool
        MaxUnpool QLinearAveragePool QLinearConv QLinearConvTranspose Resize SpaceToDepth
        """.split()  # noqa: SIM905 -- a list of 150 lines would hide the names
    ),
}
"""Operators of the runtime's own domains."""
