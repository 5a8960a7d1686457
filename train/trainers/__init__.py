"""One file per trainer: SFT, DPO and GRPO; and the code they share."""
