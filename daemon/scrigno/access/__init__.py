# SPDX-License-Identifier: Apache-2.0
"""Who may use the box from a browser or by API: first claim, accounts, sessions, tokens.

Promises: there is no default account; a password or token is never kept in clear, logged or
given back; wrong guesses cost time, but nobody is locked out for good. Must never: tell whether
an account exists to somebody who cannot log in.
"""
