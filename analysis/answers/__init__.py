"""What users ask: compare, predict, propose."""
