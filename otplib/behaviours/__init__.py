"""OTP's behaviours, written with the verbs of `otplib.process` alone."""
