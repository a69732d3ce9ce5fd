"""Where each invariant of the two studies' specifications is held, or why it is not.

T-numbers belong to arXiv 2602.15014 and its families, G-numbers to arXiv 2512.10858. Tolerances and
their reasons stand in the tests.
"""

import ast
import functools
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

EXACT, FAMILIES, SAMPLING = "test_families_exact", "test_families", "test_families_sampling"

HELD_BY: dict[str, tuple[str, ...]] = {
    # T1 to T4: values at initialisation; T5 to T15: exactness on tiny joints.
    "T1": (
        f"{FAMILIES}::test_a_zero_head_scores_log_v",
        "test_backbone::test_logits_start_at_zero",
    ),
    "T2": (f"{FAMILIES}::test_a_zero_head_scores_log_v",),
    "T3": ("test_families_objectives::test_a_zero_head_starts_cross_entropy_at_half_of_log_v",),
    "T4": (f"{FAMILIES}::test_a_zero_head_scores_log_v",),
    "T5": (f"{EXACT}::test_nelbo_with_the_leave_one_out_predictor_is_minus_log_p",),
    "T6": (f"{EXACT}::test_nelbo_does_not_depend_on_the_schedule",),
    "T7": (f"{EXACT}::test_masked_losses_are_sums_over_the_number_of_masked_tokens",),
    "T8": (f"{EXACT}::test_masked_losses_are_sums_over_the_number_of_masked_tokens",),
    "T9": (f"{EXACT}::test_nelbo_with_the_leave_one_out_predictor_is_minus_log_p",),
    "T10": (f"{EXACT}::test_no_predictor_beats_the_entropy",),
    "T11": (
        f"{EXACT}::test_uniform_density_is_the_score_entropy",
        f"{EXACT}::test_uniform_density_holds_in_float32_at_a_large_vocabulary",
    ),
    "T12": (f"{EXACT}::test_densities_are_positive_finite_and_zero_at_the_truth",),
    "T13": (f"{EXACT}::test_nelbo_does_not_depend_on_the_schedule",),
    "T14": ("test_families_esolm::test_bound_of_a_perfect_reader_is_minus_log_p",),
    # T16 to T22: kernels, samplers, networks, levels.
    "T16": (
        f"{SAMPLING}::test_posterior_is_exact_for_one_token",
        f"{SAMPLING}::test_posterior_sums_to_one_and_stands_still_without_time",
        "test_reference_vectors::test_uniform_posterior_is_that_of_duo",
    ),
    "T17": (
        f"{SAMPLING}::test_revealed_tokens_never_change",
        f"{SAMPLING}::test_masked_sampler_reveals_as_many_tokens_as_the_schedule_says",
    ),
    "T18": (
        f"{SAMPLING}::test_samplers_reproduce_a_tiny_joint",
        f"{SAMPLING}::test_one_step_of_masked_sampling_gives_the_product_of_marginals",
        "test_families_esolm::test_samplers_reproduce_a_tiny_joint",
    ),
    "T19": (
        "test_kv_cache::test_cached_and_uncached_samplers_draw_the_same_tokens_from_fewer_inputs",
    ),
    "T20": (
        "test_backbone::test_logits_ignore_tokens_later_in_the_order",
        "test_backbone::test_inputs_and_positions_permuted_together_permute_the_logits",
    ),
    "T21": (
        "test_backbone::test_causal_logits_ignore_later_tokens_and_bidirectional_ones_do_not",
        "test_backbone::test_logits_of_a_masked_position_depend_on_both_sides",
    ),
    "T22": (
        f"{FAMILIES}::test_noise_levels_are_stratified_over_the_global_batch",
        "test_trainer::test_noise_levels_are_stratified_over_the_global_batch_whatever_the_split",
    ),
    # T23 to T27: training and the study's own numbers.
    "T23": (
        f"{FAMILIES}::test_rows_of_a_batch_have_the_losses_of_the_batch",
        "test_trainer::test_ranks_and_micro_batches_add_up_to_the_gradient_of_the_global_batch",
    ),
    "T24": (
        "test_published_counts::test_totals_of_the_first_study_are_exact",
        "test_published_ladders::test_steps_are_those_of_the_study",
    ),
    "T25": ("test_references::test_all_twenty_optima_and_the_laws_of_the_diffusion_study",),
    "T26": ("test_families_objectives::test_cross_entropy_and_nelbo_have_the_same_minimiser",),
    "T27": (
        "test_trainer::test_a_resumed_run_ends_in_the_same_bits",
        "test_trainer::test_a_resumed_run_of_any_optimiser_ends_in_the_same_bits",
    ),
    # G1 to G13: diffusion.
    "G1": (
        f"{EXACT}::test_corrupted_tokens_follow_the_kernel",
        f"{SAMPLING}::test_posterior_sums_to_one_and_stands_still_without_time",
    ),
    "G2": (f"{EXACT}::test_hybrid_density_is_its_definition",),
    "G3": (f"{EXACT}::test_noise_added_between_levels_is_never_negative",),
    "G4": (
        f"{EXACT}::test_hybrid_density_is_its_definition",
        f"{EXACT}::test_densities_are_positive_finite_and_zero_at_the_truth",
    ),
    "G5": (f"{EXACT}::test_corrupted_tokens_follow_the_kernel",),
    "G6": (
        f"{EXACT}::test_hybrid_density_is_its_definition",
        f"{EXACT}::test_densities_are_positive_finite_and_zero_at_the_truth",
    ),
    "G7": (f"{EXACT}::test_hybrid_is_masked_diffusion_in_the_limit",),
    "G8": (
        f"{EXACT}::test_nelbo_with_the_leave_one_out_predictor_is_minus_log_p",
        f"{EXACT}::test_no_predictor_beats_the_entropy",
    ),
    "G9": (
        f"{EXACT}::test_nelbo_does_not_depend_on_the_schedule",
        f"{EXACT}::test_estimated_bound_is_minus_log_p_on_average",
    ),
    "G10": (
        f"{EXACT}::test_densities_are_positive_finite_and_zero_at_the_truth",
        f"{EXACT}::test_end_terms_make_the_cut_bound_a_bound",
    ),
    "G11": (f"{EXACT}::test_nelbo_with_the_leave_one_out_predictor_is_minus_log_p",),
    "G12": (
        f"{EXACT}::test_gradients_are_those_of_finite_differences",
        f"{FAMILIES}::test_loss_and_gradients_are_finite_and_wide",
    ),
    "G13": (f"{EXACT}::test_generation_starts_from_the_published_prior",),
    # G14 to G16: samplers.
    "G14": (
        f"{SAMPLING}::test_hybrid_ancestral_sampler_reproduces_a_tiny_joint",
        f"{SAMPLING}::test_posterior_sums_to_one_and_stands_still_without_time",
    ),
    "G15": (
        f"{SAMPLING}::test_revealed_tokens_never_change",
        f"{SAMPLING}::test_adaptive_at_the_masked_limit_is_confidence",
    ),
    "G16": (
        "test_prefixes::test_prompts_are_never_altered_and_carry_no_loss",
        "test_prefixes::test_clean_queries_ignore_noisy_keys_and_noisy_ones_read_all",
    ),
    # G17 to G25: network, optimiser, data.
    "G17": (
        "test_backbone::test_parameters_are_counted_exactly",
        "test_backbone::test_flops_equal_the_counter_on_the_meta_device",
    ),
    "G18": (
        "test_backbone::test_logits_start_at_zero",
        f"{FAMILIES}::test_a_zero_head_scores_log_v",
    ),
    "G19": ("test_transfer::test_training_moves_features_and_logits_alike_at_every_size",),
    "G20": (
        "test_laprop::test_the_first_step_is_the_gradient_over_its_size",
        "test_laprop::test_running_means_equal_the_closed_form_of_debiasing",
        "test_laprop::test_the_scale_of_the_gradient_does_not_matter",
    ),
    "G21": (
        "test_schedules::test_wsd_is_zero_before_the_first_step_and_after_the_last_and_peaks_between",
        "test_schedules::test_wsd_falls_as_one_minus_the_root",
    ),
    "G22": ("test_trainer::test_clipping_limits_the_update",),
    "G23": (
        "test_backbone::test_attention_equals_a_dense_reference",
        "test_prefixes::test_clean_queries_ignore_noisy_keys_and_noisy_ones_read_all",
    ),
    "G24": (
        "test_trainer::test_a_resumed_run_ends_in_the_same_bits",
        "test_trainer::test_a_resumed_run_of_any_optimiser_ends_in_the_same_bits",
    ),
    "G25": ("test_prefixes::test_lengths_follow_the_published_distribution",),
}

DOES_NOT_APPLY = {
    "T15": "predicts the bias of a bound cut at t = 1e-3; ours has its end terms and no such bias",
}


@functools.cache
def names_in(module: str) -> frozenset[str]:
    (path,) = TESTS.rglob(f"{module}.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_invariant_is_accounted_for() -> None:
    numbers = {f"T{n}" for n in range(1, 28)} | {f"G{n}" for n in range(1, 26)}
    assert HELD_BY.keys() | DOES_NOT_APPLY.keys() == numbers
    assert not HELD_BY.keys() & DOES_NOT_APPLY.keys()


@pytest.mark.parametrize("number", HELD_BY)
def test_the_test_of_an_invariant_exists(number: str) -> None:
    for name in HELD_BY[number]:
        module, test = name.split("::")
        assert test in names_in(module)
