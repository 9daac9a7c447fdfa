/* Can an expression be NULL? A judgement by its form, on the safe side: true unless every way to a
 * result is one that never gives NULL. Pure; any thread. Recursion is as deep as the tree, which
 * the parser bounds. */
#include "core/definitions/definition.h"
#include "core/expressions/expression_node.h"

static bool any_child(const struct expression *node, size_t first, size_t step,
                      const struct source *source)
{
    for (size_t i = first; i < node->child_count; i += step)
        if (expression_is_nullable(node->children[i], source))
            return true;
    return false;
}

/* [operand,] (condition, result)..., else: only the results matter. */
static bool case_is_nullable(const struct expression *node, const struct source *source)
{
    size_t first_result = node->has_operand ? 2 : 1;
    return any_child(node, first_result, 2, source) ||
           expression_is_nullable(node->children[node->child_count - 1], source);
}

static bool coalesce_is_nullable(const struct expression *node, const struct source *source)
{
    for (size_t i = 0; i < node->child_count; i++)
        if (!expression_is_nullable(node->children[i], source))
            return false;
    return true;
}

bool expression_is_nullable(const struct expression *node, const struct source *source)
{
    if (node->kind == EXPRESSION_FIELD)
        return source->fields[node->field].nullable;
    if (node->evaluate == expression_constant)
        return node->constant.is_null;
    if (node->kind == EXPRESSION_INTERVAL_LITERAL)
        return false;
    if (node->evaluate == expression_nullif)
        return true;
    if (node->evaluate == expression_is_null || node->evaluate == expression_is_boolean ||
        node->evaluate == expression_is_distinct)
        return false;
    if (node->evaluate == expression_case)
        return case_is_nullable(node, source);
    if (node->evaluate == expression_coalesce)
        return coalesce_is_nullable(node, source);
    return node->child_count == 0 || any_child(node, 0, 1, source);
}
