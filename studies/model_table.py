"""Count every registered model at 224x224 and print the Markdown table of docs/models.md.

Run from the repository root: `python studies/model_table.py`.
"""

from drconv import count_flops, create_model, list_models
from drconv.layers import RegionLayer


def main() -> None:
    """Print one row per model."""
    print("| name | MAdds | parameters | DRConv layers |")
    print("|---|---:|---:|---:|")
    for name in list_models():
        model = create_model(name)
        report = count_flops(model)
        layers = sum(isinstance(module, RegionLayer) for module in model.modules())
        print(f"| `{name}` | {report.madds / 1e6:.2f} M | {report.params:,} | {layers} |", flush=True)


if __name__ == "__main__":
    main()
