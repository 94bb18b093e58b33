"""The scenes. Each is a function that gets a `Site`, and is named for what a user does or sees."""

from scenes import access, connection, dead, finding, figures, hostility, large, queue, queues, task, workers

# On a small server that they share, or on one of their own.
SMALL = [
    figures.overview_shows_what_stats_says, queues.sort_and_filter_queues, queues.act_on_several_queues,
    queue.configure_a_queue, queue.act_on_a_queue, task.see_tasks_of_each_state, task.act_on_a_task,
    task.see_numbers_as_they_are, dead.act_on_a_group_of_dead_tasks, workers.see_workers, finding.search,
    finding.use_only_the_keyboard, access.enter_a_token, access.look_with_a_token_that_only_reads,
    access.hide_contents, access.behind_a_proxy_with_a_prefix, connection.lose_the_connection,
    connection.see_that_figures_are_old, connection.hide_the_tab, connection.hold_what_is_selected, hostility.hostile_tasks_change_nothing,
]
# On a server with 10,000 queues and a million tasks.
LARGE = [
    large.scroll_ten_thousand_queues, large.walk_the_tree, large.see_a_busy_server, large.use_assistive_technology,
    large.use_a_phone,
]


def prepare(emq):
    """Fills the small server."""
    hostility.prepare(emq)
