# The stages of which a cluster makes shards in parallel, in their order, and what `dvc repro` makes before each of them.
# shellcheck shell=bash disable=SC2034
SHARDED=(
    generate_rollouts propose_steps review_student_steps review_teacher_steps label_steps score_steps complete_steps
)
declare -A BEFORE=(
    [generate_rollouts]="prepare_problems prepare_models"
    [propose_steps]="generate_rollouts"
    [review_student_steps]="propose_steps"
    [review_teacher_steps]="propose_steps"
    [label_steps]="propose_steps"
    [score_steps]="review_student_steps review_teacher_steps train_prm"
    [complete_steps]="fit_reliability"
)
