"""The published protocols of two systems, repaired one flaw at a time, and a checklist of such flaws for any model."""
