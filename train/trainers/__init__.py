"""One trainer a file: SFT, DPO and GRPO, and what they share."""
