"""Detection and instance segmentation with ViTDet (arXiv 2203.16527) on a pre-trained ViT, as the paper evaluates."""
