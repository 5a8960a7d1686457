"""A majority vote over formulas, from a plain script: nothing here needs `if __name__ == "__main__"`.

python examples/vote.py
"""

from crescent import same_answer, vote

responses = [
    r"Expanding gives \boxed{x^2 + x}.",
    r"Factor: \boxed{x(x+1)}",
    r"So the answer is \boxed{x^2}.",
    "I do not know.",
]
decided = vote(responses, question="Expand x(x+1).")
print(f"{decided.winner} by {decided.votes} of {decided.of}, agreement {decided.agreement:.2f}")
print("classes:", decided.classes)
print("1/2 is 0.5:", same_answer("1/2", "0.5"))
