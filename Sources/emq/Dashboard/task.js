// Placeholder.

import { Page } from "./page.js";

export class TaskPage extends Page {}
